;; trick: waits for one handle that is named nine hundred times, again and again: all of it the host's work
;; at: invoke
;; expect: it used up the 0.3 s on the processor of `limits.cpu`
;; limits: cpu = "300ms"

(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
(memory (export "memory") 40)
;; What comes back goes always to the same place.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (i32.const 524288))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $pollable i32) (local $at i32)
  (local.set $pollable (call $subscribe (i64.const 1)))
  (local.set $at (i32.const 262144))
  (loop $fill
    (i32.store (local.get $at) (local.get $pollable))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br_if $fill (i32.lt_u (local.get $at) (i32.const 265744))))
  (loop $more
    (call $poll (i32.const 262144) (i32.const 900) (i32.const 2048))
    (br $more))
  unreachable)
