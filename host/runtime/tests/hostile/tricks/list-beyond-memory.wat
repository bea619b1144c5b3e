;; trick: a list whose elements are so numerous that their bytes overflow a number
;; at: invoke
;; expect: out of bounds

(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $write (i32.const 2) (i32.const 4096) (i32.const 0) (i32.const 4096) (i32.const 0x10000001))
  unreachable)
