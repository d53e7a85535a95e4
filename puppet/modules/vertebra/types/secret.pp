# A secret of 16 characters or more.
type Vertebra::Secret = Sensitive[Pattern[/\A[!-~]{16,1024}\z/]]
