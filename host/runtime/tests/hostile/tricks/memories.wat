;; trick: more memories than a plugin may have
;; at: load
;; expect: defined memories count of 21 exceeds the per-instance limit of 8

<<20 (memory $m% 1)
>>
