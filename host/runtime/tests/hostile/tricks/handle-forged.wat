;; trick: a handle that the host never gave it
;; at: invoke
;; expect: unknown handle index

(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $block (i32.const 12345))
  unreachable)
