;; trick: an allocator that hands out the same place for everything; it spoils its own data and no other
;; at: fine
;; expect: {"a":"longer than the name of the action"}
;; input: {"a":"longer than the name of the action"}

(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (i32.const 65536))
