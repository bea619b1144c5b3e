;; trick: a terabyte of random bytes from the cheap source
;; at: invoke
;; expect: requested len 1099511627776 exceeds limit 1048576

(import "wasi:random/insecure@0.2.0" "get-insecure-random-bytes" (func $random (param i64 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $random (i64.const 1099511627776) (i32.const 2048))
  unreachable)
