;; trick: a loop after its description is there, when the host lets the plugin clean up
;; at: load
;; expect: it takes more than the 0.1 s on the processor that a description may

(func (export "cabi_post_qchost:agent/guest@0.1.0#describe") (param i32)
  (loop $for-ever (br $for-ever)))
