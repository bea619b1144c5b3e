;; trick: a key of a megabyte; it returns 2, the case `invalid-key`
;; at: fine
;; expect: 2

(import "qchost:agent/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 32)))
  (call $set (i32.const 65536) (i32.const 1048576) (i32.const 4096) (i32.const 1) (i32.const 2048))
  (call $digit (i32.load8_u (i32.const 2052))))
