;; trick: a failure in the start function
;; at: load
;; expect: wasm `unreachable` instruction executed

(func $begin unreachable)
(start $begin)
