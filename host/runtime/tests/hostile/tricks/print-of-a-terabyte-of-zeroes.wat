;; trick: a terabyte of zeroes that the host is to make itself
;; at: invoke
;; expect: cannot write more zeroes than `check_write` allows

(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.write-zeroes" (func $zeroes (param i32 i64 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $zeroes (call $stdout) (i64.const 1099511627776) (i32.const 2048))
  unreachable)
