;; trick: five thousand imports of interfaces
;; at: load
;; expect: the component imports `acme:many/i0`, which this host does not have

(component
<<5000   (import "acme:many/i%" (instance (export "go" (func))))
>>)
