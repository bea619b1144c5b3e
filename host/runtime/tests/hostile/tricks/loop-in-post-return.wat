;; trick: a loop after the result is there, when the host lets the plugin clean up
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"

(func (export "cabi_post_qchost:agent/guest@0.1.0#invoke") (param i32)
  (loop $for-ever (br $for-ever)))
