;; trick: an argument that is not UTF-8
;; at: invoke
;; expect: utf-8

(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "\ff\fe\c0\80")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $write (i32.const 2) (i32.const 4096) (i32.const 4) (i32.const 0) (i32.const 0))
  unreachable)
