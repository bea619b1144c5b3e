;; trick: a failure after its description is there
;; at: load
;; expect: the component's description: it failed: wasm trap: wasm `unreachable`

(func (export "cabi_post_qchost:agent/guest@0.1.0#describe") (param i32)
  unreachable)
