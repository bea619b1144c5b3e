(component
  (type $ty-quantconnect:api/types@0.1.0 (;0;)
    (instance
      (type (;0;) string)
      (export (;1;) "json" (type (eq 0)))
      (type (;2;) string)
      (export (;3;) "timestamp" (type (eq 2)))
      (type (;4;) (option string))
      (type (;5;) (record (field "reason" string) (field "nearest-grant" 4) (field "remedy" 4)))
      (export (;6;) "denial" (type (eq 5)))
      (type (;7;) (option f64))
      (type (;8;) (record (field "grant" string) (field "budget" string) (field "message" string) (field "resets-in" 7)))
      (export (;9;) "exhaustion" (type (eq 8)))
      (type (;10;) (record (field "progress" 7) (field "message" string)))
      (export (;11;) "readiness" (type (eq 10)))
      (type (;12;) (list string))
      (type (;13;) (variant (case "denied" 6) (case "budget-exhausted" 9) (case "rate-limited" f64) (case "approval-required" string) (case "approval-refused" string) (case "halted" string) (case "invalid-argument" string) (case "not-found" string) (case "not-ready" 11) (case "rejected" 12) (case "unavailable" string) (case "timed-out" string) (case "unknown-outcome" string) (case "unexpected-response" string) (case "reauthorize" string)))
      (export (;14;) "error" (type (eq 13)))
    )
  )
  (import "quantconnect:api/types@0.1.0" (instance $quantconnect:api/types@0.1.0 (;0;) (type $ty-quantconnect:api/types@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;1;) (func (param i32 i32) (result i32)))
    (type (;2;) (func (param i32) (result i32)))
    (type (;3;) (func (result i32)))
    (type (;4;) (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 65536)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func $alloc))
    (export "qchost:agent/guest@0.1.0#describe" (func 4))
    (export "qchost:agent/guest@0.1.0#invoke" (func 5))
    (export "qchost:agent/guest@0.1.0#handle" (func 6))
    (func $alloc (;0;) (type 0) (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
      (local $at i32)
      global.get $heap
      local.get $align
      i32.const 1
      i32.sub
      i32.add
      i32.const 0
      local.get $align
      i32.sub
      i32.and
      local.set $at
      local.get $at
      local.get $len
      i32.add
      global.set $heap
      block $enough
        loop $more
          global.get $heap
          memory.size
          i32.const 65536
          i32.mul
          i32.le_u
          br_if $enough
          i32.const 1
          memory.grow
          i32.const -1
          i32.eq
          if ;; label = @3
            unreachable
          end
          br $more
        end
      end
      local.get $at
    )
    (func $ok (;1;) (type 1) (param $at i32) (param $len i32) (result i32)
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1032
      local.get $at
      i32.store
      i32.const 1036
      local.get $len
      i32.store
      i32.const 1024
    )
    (func $digit (;2;) (type 2) (param $number i32) (result i32)
      i32.const 1100
      i32.const 32
      i32.store8
      local.get $number
      i32.const 10
      i32.ge_u
      if ;; label = @1
        i32.const 1100
        i32.const 48
        local.get $number
        i32.const 10
        i32.div_u
        i32.add
        i32.store8
      end
      i32.const 1101
      i32.const 48
      local.get $number
      i32.const 10
      i32.rem_u
      i32.add
      i32.store8
      i32.const 1100
      i32.const 2
      call $ok
    )
    (func $fail (;3;) (type 1) (param $at i32) (param $len i32) (result i32)
      i32.const 1024
      i32.const 1
      i32.store8
      i32.const 1032
      i32.const 3
      i32.store8
      i32.const 1040
      local.get $at
      i32.store
      i32.const 1044
      local.get $len
      i32.store
      i32.const 1024
    )
    (func (;4;) (type 3) (result i32)
      unreachable
    )
    (func (;5;) (type 0) (param $action i32) (param $action_len i32) (param $input i32) (param $input_len i32) (result i32)
      (local $n i32) (local $m i32)
      local.get $input
      local.get $input_len
      call $ok
    )
    (func (;6;) (type 4) (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (data (;0;) (i32.const 32768) "act")
    (data (;1;) (i32.const 32776) "acts")
    (data (;2;) (i32.const 32784) "{}")
    (data (;3;) (i32.const 32792) "{}")
    (data (;4;) (i32.const 32800) "\00\80\00\00\03\00\00\00\08\80\00\00\04\00\00\00\10\80\00\00\02\00\00\00\18\80\00\00\02\00\00\00\01\00\01\00")
    (data (;5;) (i32.const 32840) "guest")
    (data (;6;) (i32.const 32848) "1.2.3")
    (data (;7;) (i32.const 32856) "A plugin of a test.")
    (data (;8;) (i32.const 32880) "H\80\00\00\05\00\00\00P\80\00\00\05\00\00\00X\80\00\00\13\00\00\00 \80\00\00\01\00\00\00")
    (@producers
      (processed-by "wit-component" "0.263.0")
    )
  )
  (alias export $quantconnect:api/types@0.1.0 "json" (type $json (;1;)))
  (alias export $quantconnect:api/types@0.1.0 "timestamp" (type $timestamp (;2;)))
  (alias export $quantconnect:api/types@0.1.0 "error" (type $error (;3;)))
  (type (;4;) (record (field "read-only" bool) (field "destructive" bool) (field "idempotent" bool)))
  (type (;5;) (record (field "name" string) (field "description" string) (field "input-schema" $json) (field "output-schema" $json) (field "hints" 4)))
  (type (;6;) (list 5))
  (type (;7;) (option $json))
  (type (;8;) (record (field "name" string) (field "version" string) (field "summary" string) (field "actions" 6) (field "config-schema" 7)))
  (type (;9;) (record (field "id" string) (field "kind" string) (field "subject" string) (field "time" $timestamp) (field "data" $json)))
  (type (;10;) (variant (case "invalid-input" string) (case "unsupported" string) (case "capability" $error) (case "failed" string)))
  (core instance $main (;0;) (instantiate $main))
  (alias core export $main "memory" (core memory $memory (;0;)))
  (type (;11;) (func (result 8)))
  (alias core export $main "qchost:agent/guest@0.1.0#describe" (core func $qchost:agent/guest@0.1.0#describe (;0;)))
  (func $describe (;0;) (type 11) (canon lift (core func $qchost:agent/guest@0.1.0#describe) (memory $memory) string-encoding=utf8))
  (type (;12;) (result $json (error 10)))
  (type (;13;) (func (param "action" string) (param "input" $json) (result 12)))
  (alias core export $main "qchost:agent/guest@0.1.0#invoke" (core func $qchost:agent/guest@0.1.0#invoke (;1;)))
  (alias core export $main "cabi_realloc" (core func $cabi_realloc (;2;)))
  (func $invoke (;1;) (type 13) (canon lift (core func $qchost:agent/guest@0.1.0#invoke) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (type (;14;) (result (error 10)))
  (type (;15;) (func (param "event" 9) (result 14)))
  (alias core export $main "qchost:agent/guest@0.1.0#handle" (core func $qchost:agent/guest@0.1.0#handle (;3;)))
  (func $handle (;2;) (type 15) (canon lift (core func $qchost:agent/guest@0.1.0#handle) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (alias export $quantconnect:api/types@0.1.0 "denial" (type $denial (;16;)))
  (alias export $quantconnect:api/types@0.1.0 "exhaustion" (type $exhaustion (;17;)))
  (alias export $quantconnect:api/types@0.1.0 "readiness" (type $readiness (;18;)))
  (component $qchost:agent/guest@0.1.0-shim-component (;0;)
    (type (;0;) string)
    (import "import-type-json" (type (;1;) (eq 0)))
    (type (;2;) string)
    (import "import-type-timestamp" (type (;3;) (eq 2)))
    (type (;4;) (option string))
    (type (;5;) (record (field "reason" string) (field "nearest-grant" 4) (field "remedy" 4)))
    (import "import-type-denial" (type (;6;) (eq 5)))
    (type (;7;) (option f64))
    (type (;8;) (record (field "grant" string) (field "budget" string) (field "message" string) (field "resets-in" 7)))
    (import "import-type-exhaustion" (type (;9;) (eq 8)))
    (type (;10;) (record (field "progress" 7) (field "message" string)))
    (import "import-type-readiness" (type (;11;) (eq 10)))
    (type (;12;) (list string))
    (type (;13;) (variant (case "denied" 6) (case "budget-exhausted" 9) (case "rate-limited" f64) (case "approval-required" string) (case "approval-refused" string) (case "halted" string) (case "invalid-argument" string) (case "not-found" string) (case "not-ready" 11) (case "rejected" 12) (case "unavailable" string) (case "timed-out" string) (case "unknown-outcome" string) (case "unexpected-response" string) (case "reauthorize" string)))
    (import "import-type-error" (type (;14;) (eq 13)))
    (import "import-type-json0" (type (;15;) (eq 1)))
    (type (;16;) (record (field "read-only" bool) (field "destructive" bool) (field "idempotent" bool)))
    (import "import-type-hints" (type (;17;) (eq 16)))
    (type (;18;) (record (field "name" string) (field "description" string) (field "input-schema" 15) (field "output-schema" 15) (field "hints" 17)))
    (import "import-type-action" (type (;19;) (eq 18)))
    (type (;20;) (list 19))
    (type (;21;) (record (field "name" string) (field "version" string) (field "summary" string) (field "actions" 20) (field "config-schema" 4)))
    (import "import-type-description" (type (;22;) (eq 21)))
    (type (;23;) (func (result 22)))
    (import "import-func-describe" (func (;0;) (type 23)))
    (import "import-type-error0" (type (;24;) (eq 14)))
    (type (;25;) (variant (case "invalid-input" string) (case "unsupported" string) (case "capability" 24) (case "failed" string)))
    (import "import-type-failure" (type (;26;) (eq 25)))
    (type (;27;) (result 15 (error 26)))
    (type (;28;) (func (param "action" string) (param "input" 15) (result 27)))
    (import "import-func-invoke" (func (;1;) (type 28)))
    (import "import-type-timestamp0" (type (;29;) (eq 3)))
    (type (;30;) (record (field "id" string) (field "kind" string) (field "subject" string) (field "time" 29) (field "data" 15)))
    (import "import-type-event" (type (;31;) (eq 30)))
    (type (;32;) (result (error 26)))
    (type (;33;) (func (param "event" 31) (result 32)))
    (import "import-func-handle" (func (;2;) (type 33)))
    (export (;34;) "json" (type 1))
    (export (;35;) "timestamp" (type 3))
    (export (;36;) "error" (type 14))
    (type (;37;) (record (field "read-only" bool) (field "destructive" bool) (field "idempotent" bool)))
    (export (;38;) "hints" (type 37))
    (type (;39;) (record (field "name" string) (field "description" string) (field "input-schema" 34) (field "output-schema" 34) (field "hints" 38)))
    (export (;40;) "action" (type 39))
    (type (;41;) (list 40))
    (type (;42;) (record (field "name" string) (field "version" string) (field "summary" string) (field "actions" 41) (field "config-schema" 4)))
    (export (;43;) "description" (type 42))
    (type (;44;) (record (field "id" string) (field "kind" string) (field "subject" string) (field "time" 35) (field "data" 34)))
    (export (;45;) "event" (type 44))
    (type (;46;) (variant (case "invalid-input" string) (case "unsupported" string) (case "capability" 36) (case "failed" string)))
    (export (;47;) "failure" (type 46))
    (type (;48;) (func (result 43)))
    (export (;3;) "describe" (func 0) (func (type 48)))
    (type (;49;) (result 34 (error 47)))
    (type (;50;) (func (param "action" string) (param "input" 34) (result 49)))
    (export (;4;) "invoke" (func 1) (func (type 50)))
    (type (;51;) (result (error 47)))
    (type (;52;) (func (param "event" 45) (result 51)))
    (export (;5;) "handle" (func 2) (func (type 52)))
  )
  (instance $qchost:agent/guest@0.1.0-shim-instance (;1;) (instantiate $qchost:agent/guest@0.1.0-shim-component
      (with "import-func-describe" (func $describe))
      (with "import-func-invoke" (func $invoke))
      (with "import-func-handle" (func $handle))
      (with "import-type-json" (type $json))
      (with "import-type-timestamp" (type $timestamp))
      (with "import-type-denial" (type $denial))
      (with "import-type-exhaustion" (type $exhaustion))
      (with "import-type-readiness" (type $readiness))
      (with "import-type-error" (type $error))
      (with "import-type-json0" (type $json))
      (with "import-type-hints" (type 4))
      (with "import-type-action" (type 5))
      (with "import-type-description" (type 8))
      (with "import-type-error0" (type $error))
      (with "import-type-failure" (type 10))
      (with "import-type-timestamp0" (type $timestamp))
      (with "import-type-event" (type 9))
    )
  )
  (export $qchost:agent/guest@0.1.0 (;2;) "qchost:agent/guest@0.1.0" (instance $qchost:agent/guest@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.263.0")
  )
)
