;; trick: an allocator that wants more memory for every byte
;; at: invoke
;; expect: it wanted more memory than the 33554432 bytes of `limits.memory`

(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  unreachable)
