;; trick: a call of the host when the plugin may only clean up
;; at: invoke
;; expect: cannot leave component instance

(import "qchost:agent/clock@0.1.0" "now" (func $now (result f64)))
(func (export "cabi_post_qchost:agent/guest@0.1.0#invoke") (param i32)
  (drop (call $now)))
