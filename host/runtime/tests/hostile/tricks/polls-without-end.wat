;; trick: waits of no length in a loop, each of which gives the worker back at once
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"

(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $pollable i32)
  (loop $for-ever
    (local.set $pollable (call $subscribe (i64.const 0)))
    (call $block (local.get $pollable))
    (call $drop (local.get $pollable))
    (br $for-ever))
  unreachable)
