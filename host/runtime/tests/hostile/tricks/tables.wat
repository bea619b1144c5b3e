;; trick: more tables than a plugin may have
;; at: load
;; expect: tables

<<100 (table $t% 1 funcref)
>>
