;; trick: a line for the log of a level that the contract does not have
;; at: invoke
;; expect: unexpected discriminant

(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $write (i32.const 99) (i32.const 4096) (i32.const 1) (i32.const 0) (i32.const 0))
  unreachable)
