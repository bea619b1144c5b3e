;; trick: a stream that is given back while something waits for it
;; at: invoke
;; expect: resource has children

(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.subscribe" (func $subscribe (param i32) (result i32)))
(import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $stream i32)
  (local.set $stream (call $stdout))
  (drop (call $subscribe (local.get $stream)))
  (call $drop (local.get $stream))
  unreachable)
