;; trick: an allocator whose addresses are odd, for a list that must not be at one
;; at: invoke
;; expect: not aligned

(import "qchost:agent/state@0.1.0" "list-keys" (func $list (param i32 i32 i32)))
(import "qchost:agent/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (i32.const 65537))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $set (i32.const 4096) (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 2048))
  (call $list (i32.const 4096) (i32.const 0) (i32.const 2048))
  unreachable)
(data (i32.const 4096) "k")
