;; trick: waits for approvals that were never asked for, as fast as it can
;; at: invoke
;; expect: it used up the 0.3 s on the processor of `limits.cpu`
;; limits: cpu = "300ms"
;; limits: wall = "60s"

(import "qchost:agent/approvals@0.1.0" "wait" (func $wait (param i32 i32 i32)))
(data (i32.const 4096) "ap-1")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $wait (i32.const 4096) (i32.const 4) (i32.const 2048))
    (br $more))
  unreachable)
