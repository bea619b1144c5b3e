;; trick: the arguments of the host; it returns how many there are, and 10 more if it has a folder
;; at: fine
;; expect: 0

(import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
(import "wasi:cli/environment@0.2.0" "initial-cwd" (func $folder (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $arguments (i32.const 2048))
  (call $folder (i32.const 2064))
  (call $digit (i32.add (i32.load (i32.const 2052))
    (i32.mul (i32.const 10) (i32.load8_u (i32.const 2064))))))
