;; trick: two plugins, each of which loops on every worker of the host at once
;; at: invoke
;; expect: it used up the 0.5 s on the processor of `limits.cpu`
;; limits: cpu = "500ms"
;; limits: concurrency = 2
;; at-once: 2
;; at-once-plugins: 2

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $for-ever (br $for-ever))
  unreachable)
