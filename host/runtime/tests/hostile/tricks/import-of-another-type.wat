;; trick: a known import with another type, so that the host would write where it should not
;; at: load
;; expect: wasi:random/random@0.2.1
;; wit: package wasi:random@0.2.1; interface random { get-random-u64: func() -> string; }

(import "wasi:random/random@0.2.1" "get-random-u64" (func $random (param i32)))
