;; trick: a socket; it returns 11: an error, the case `access-denied`
;; at: fine
;; expect: 11

(import "wasi:sockets/udp-create-socket@0.2.0" "create-udp-socket" (func $create (param i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $create (i32.const 0) (i32.const 2048))
  (call $digit (i32.add
    (i32.mul (i32.const 10) (i32.load8_u (i32.const 2048)))
    (i32.load8_u (i32.const 2052)))))
