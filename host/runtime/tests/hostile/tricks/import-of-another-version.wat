;; trick: an interface of QuantConnect of a version that does not exist
;; at: load
;; expect: it may be of another version of the contract
;; wit: package quantconnect:api@0.9.0; interface compile { create-compile: func() -> u32; }

(import "quantconnect:api/compile@0.9.0" "create-compile" (func $create (result i32)))
