;; trick: a stopwatch by the clock, read as often as it can, to see what the host does beside it
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"

(import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
(import "wasi:clocks/monotonic-clock@0.2.0" "resolution" (func $resolution (result i64)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $last i64)
  (drop (call $resolution))
  (loop $more
    ;; Time never goes back.
    (if (i64.lt_u (call $now) (local.get $last)) (then unreachable))
    (local.set $last (call $now))
    (br $more))
  unreachable)
