;; trick: an allocator that hands out what is not its memory
;; at: invoke
;; expect: realloc return: beyond end of memory

(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (i32.const 0x7ffffff0))
