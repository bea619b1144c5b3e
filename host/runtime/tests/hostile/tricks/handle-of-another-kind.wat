;; trick: a handle of a stream, used as one to wait for
;; at: invoke
;; expect: handle index 1 used with the wrong type

(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $block (call $stdout))
  unreachable)
