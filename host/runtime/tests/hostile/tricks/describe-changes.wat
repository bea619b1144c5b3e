;; trick: a name that is another one each time; it is asked once, so all clients see the same
;; at: fine
;; expect: {}

(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
(data (i32.const 4096) "act-aaaaaaaa")
(data (i32.const 4112) "{}")
(data (i32.const 4128)  ;; the one action: its name, description and schemas, and the hints
  "\00\10\00\00\0c\00\00\00" "\00\10\00\00\03\00\00\00" "\10\10\00\00\02\00\00\00" "\10\10\00\00\02\00\00\00" "\00\00\00\00")
(data (i32.const 4176)  ;; the description: name, version, summary, actions
  "\00\10\00\00\0c\00\00\00" "\00\10\00\00\03\00\00\00" "\00\10\00\00\03\00\00\00" "\20\10\00\00\01\00\00\00")
(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  ;; Eight random letters from `a` to `p`.
  (i64.store (i32.const 4100)
    (i64.add (i64.const 0x6161616161616161) (i64.and (call $random) (i64.const 0x0f0f0f0f0f0f0f0f))))
  (i32.const 4176))
