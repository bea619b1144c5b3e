;; trick: a description of half a megabyte
;; at: load
;; expect: it handed the host more than 262144 bytes at a time
<<10 ;; action: a% {"description":"<<50000 x>>"}
>>
