;; trick: a thousand actions
;; at: load
;; expect: it has 1000 actions; at most 256 are allowed
<<1000 ;; action: a% {}
>>
