# 1 to 200 visible characters without spaces.
type Vertebra::Visible = Pattern[/\A[!-~]{1,200}\z/]
