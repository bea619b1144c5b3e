;; trick: the standard input of the host; it returns 11: an error, the case `closed`
;; at: fine
;; expect: 11

(import "wasi:cli/stdin@0.2.0" "get-stdin" (func $stdin (result i32)))
(import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $read (call $stdin) (i64.const 0x7fffffffffffffff) (i32.const 2048))
  (call $digit (i32.add
    (i32.mul (i32.const 10) (i32.load8_u (i32.const 2048)))
    (i32.load8_u (i32.const 2052)))))
