;; trick: thirty megabytes printed at once, where the stream allows 64 KiB
;; at: invoke
;; expect: it wrote more than the 65536 bytes that it may at a time
;; limits: memory = "64MiB"

(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 512)))
  (call $write (call $stdout) (i32.const 65536) (i32.const 31457280) (i32.const 2048))
  unreachable)
