;; trick: a failed assertion
;; at: invoke
;; expect: wasm `unreachable` instruction executed

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  unreachable)
