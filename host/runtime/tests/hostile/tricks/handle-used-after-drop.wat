;; trick: a handle that is used after it was given back
;; at: invoke
;; expect: unknown handle index

(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $pollable i32)
  (local.set $pollable (call $subscribe (i64.const 0)))
  (call $drop (local.get $pollable))
  (call $block (local.get $pollable))
  unreachable)
