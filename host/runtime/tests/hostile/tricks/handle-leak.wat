;; trick: pollables that it never gives back
;; at: invoke
;; expect: it holds more handles than the 1000 that it may

(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $more (drop (call $subscribe (i64.const 0))) (br $more))
  unreachable)
