;; trick: five thousand imports of interfaces
;; at: load
;; expect: the component is not valid: instances count exceeds limit of 1000

(component
<<5000   (import "acme:many/i%" (instance (export "go" (func))))
>>)
