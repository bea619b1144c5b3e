;; trick: more core instances in a component than there is room for
;; at: load
;; expect: core module instances

(component
  (core module $module)
<<100   (core instance (instantiate $module))
>>  (instance $empty)
  (export "qchost:agent/guest@0.1.0" (instance $empty)))
