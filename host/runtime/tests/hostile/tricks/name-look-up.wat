;; trick: a look-up of a name, which a server of its own could count; it returns 1: an error
;; at: fine
;; expect: 1

(import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))
(import "wasi:sockets/ip-name-lookup@0.2.0" "resolve-addresses" (func $resolve (param i32 i32 i32 i32)))
(data (i32.const 4096) "localhost")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $resolve (call $network) (i32.const 4096) (i32.const 9) (i32.const 2048))
  (call $digit (i32.load8_u (i32.const 2048))))
