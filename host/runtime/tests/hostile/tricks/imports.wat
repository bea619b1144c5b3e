;; trick: five thousand imports
;; at: load
;; expect: the component imports `many-0`, which this host does not have

(component
<<5000   (import "many-%" (func))
>>)
