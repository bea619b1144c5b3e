;; trick: cheap calls of the host in a loop, each of which is the host's own time
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"

(import "qchost:agent/clock@0.1.0" "now" (func $now (result f64)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $for-ever (drop (call $now)) (br $for-ever))
  unreachable)
