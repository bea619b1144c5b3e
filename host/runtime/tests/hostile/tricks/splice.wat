;; trick: the standard output fed from the standard input for as long as it takes; it returns 11: an error, the case `closed`
;; at: fine
;; expect: 11

(import "wasi:cli/stdin@0.2.0" "get-stdin" (func $stdin (result i32)))
(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-splice" (func $splice (param i32 i32 i64 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $splice (call $stdout) (call $stdin) (i64.const -1) (i32.const 2048))
  (call $digit (i32.add
    (i32.mul (i32.const 10) (i32.load8_u (i32.const 2048)))
    (i32.load8_u (i32.const 2056)))))
