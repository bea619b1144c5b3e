;; trick: a wait for a time that never comes
;; at: invoke
;; expect: it was not done after the 0.2 s of `limits.wall`
;; limits: wall = "200ms"

(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-instant" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $block (call $subscribe (i64.const -1)))
  unreachable)
