;; trick: loops on every worker of the host at once, twice over
;; at: invoke
;; expect: it used up the 0.5 s on the processor of `limits.cpu`
;; limits: cpu = "500ms"
;; limits: concurrency = 4
;; at-once: 4

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $for-ever (br $for-ever))
  unreachable)
