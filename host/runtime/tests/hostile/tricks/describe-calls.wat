;; trick: a call of QuantConnect before the first invocation; every capability is denied then, and it fails over that
;; at: load
;; expect: wasm `unreachable` instruction executed
;; grant: allow = ["compile/*"]
;; grant: projects = ["*"]

(import "quantconnect:api/compile@0.1.0" "create-compile" (func $create (param i32 i32)))
(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  (call $create (i32.const 7) (i32.const 2048))
  (if (i32.eqz (i32.load8_u (i32.const 2048))) (then (loop $it-was-sent (br $it-was-sent))))
  unreachable)
