;; trick: a wait for one handle, named a million times
;; at: invoke
;; expect: it holds more handles than the 1000 that it may
;; limits: cpu = "300ms"

(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $pollable i32) (local $at i32)
  (drop (memory.grow (i32.const 128)))
  (local.set $pollable (call $subscribe (i64.const 1)))
  (local.set $at (i32.const 262144))
  (loop $fill
    (i32.store (local.get $at) (local.get $pollable))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br_if $fill (i32.lt_u (local.get $at) (i32.const 4262144))))
  (loop $more
    (call $poll (i32.const 262144) (i32.const 1000000) (i32.const 2048))
    (br $more))
  unreachable)
