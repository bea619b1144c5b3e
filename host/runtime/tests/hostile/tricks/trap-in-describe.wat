;; trick: a failure before the first invocation
;; at: load
;; expect: the component's description: it failed: wasm trap: wasm `unreachable`

(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  unreachable)
