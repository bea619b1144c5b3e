;; trick: requests that are denied in a loop, each of which the host decides about and writes down
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"
;; limits: wall = "30s"
;; http: allow = "https://hooks.example.com/qc/"
;; http: methods = ["GET"]

(import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority" (func $authority (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-path-with-query" (func $path (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]future-incoming-response.subscribe" (func $subscribe (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]future-incoming-response" (func $forget (param i32)))
(import "wasi:http/outgoing-handler@0.2.0" "handle" (func $handle (param i32 i32 i32 i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
(data (i32.const 4096) "elsewhere.example.com/")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (local $request i32) (local $answer i32) (local $pollable i32)
  (loop $for-ever
    (local.set $request (call $request (call $fields)))
    (if (call $authority (local.get $request) (i32.const 1) (i32.const 4096) (i32.const 21))
      (then unreachable))
    (if (call $path (local.get $request) (i32.const 1) (i32.const 4117) (i32.const 1))
      (then unreachable))
    (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 2048))
    (if (i32.load8_u (i32.const 2048)) (then unreachable))
    (local.set $answer (i32.load (i32.const 2056)))
    (local.set $pollable (call $subscribe (local.get $answer)))
    (call $block (local.get $pollable))
    (call $drop (local.get $pollable))
    (call $forget (local.get $answer))
    (br $for-ever))
  unreachable)
