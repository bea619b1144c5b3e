;; trick: an allocator that never returns, while the host hands in the arguments
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"

(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (loop $for-ever (br $for-ever))
  unreachable)
