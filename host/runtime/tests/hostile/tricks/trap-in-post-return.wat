;; trick: a failure after the result is there
;; at: invoke
;; expect: wasm `unreachable` instruction executed

(func (export "cabi_post_qchost:agent/guest@0.1.0#invoke") (param i32)
  unreachable)
