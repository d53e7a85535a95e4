//! Where people live: post towns with their postcode districts and weights, streets, houses. Facts, of our own choosing.

/// A post town and its postcodes.
#[derive(Clone, Copy)]
pub(super) struct Area {
    /// Letters of the postcode.
    pub(super) letters: &'static str,
    /// Districts 1 to this.
    pub(super) districts: u8,
    /// Post town.
    pub(super) town: &'static str,
    /// County; empty where nobody writes one.
    pub(super) county: &'static str,
    /// Thousands of people, roughly.
    pub(super) weight: u16,
}

const fn area(letters: &'static str, districts: u8, town: &'static str, county: &'static str, weight: u16) -> Area {
    Area {
        letters,
        districts,
        town,
        county,
        weight,
    }
}

/// The areas.
pub(super) const AREAS: [Area; 88] = [
    area("B", 48, "Birmingham", "West Midlands", 1900),
    area("SE", 28, "London", "", 1000),
    area("SW", 20, "London", "", 880),
    area("N", 22, "London", "", 800),
    area("E", 18, "London", "", 980),
    area("W", 14, "London", "", 530),
    area("NW", 11, "London", "", 530),
    area("M", 46, "Manchester", "Greater Manchester", 1250),
    area("NG", 25, "Nottingham", "Nottinghamshire", 1150),
    area("S", 75, "Sheffield", "South Yorkshire", 1350),
    area("LS", 29, "Leeds", "West Yorkshire", 770),
    area("L", 40, "Liverpool", "Merseyside", 860),
    area("BS", 49, "Bristol", "", 960),
    area("LE", 19, "Leicester", "Leicestershire", 970),
    area("NE", 49, "Newcastle upon Tyne", "Tyne and Wear", 1160),
    area("CF", 48, "Cardiff", "South Glamorgan", 1030),
    area("PO", 22, "Portsmouth", "Hampshire", 840),
    area("BN", 27, "Brighton", "East Sussex", 820),
    area("RG", 31, "Reading", "Berkshire", 800),
    area("PE", 38, "Peterborough", "Cambridgeshire", 890),
    area("GU", 35, "Guildford", "Surrey", 730),
    area("BT", 48, "Belfast", "County Antrim", 600),
    area("CV", 37, "Coventry", "West Midlands", 810),
    area("ST", 21, "Stoke-on-Trent", "Staffordshire", 650),
    area("SO", 45, "Southampton", "Hampshire", 660),
    area("NN", 18, "Northampton", "Northamptonshire", 670),
    area("OX", 29, "Oxford", "Oxfordshire", 640),
    area("CM", 24, "Chelmsford", "Essex", 660),
    area("ME", 20, "Maidstone", "Kent", 600),
    area("CH", 66, "Chester", "Cheshire", 660),
    area("DE", 24, "Derby", "Derbyshire", 750),
    area("PR", 26, "Preston", "Lancashire", 530),
    area("NR", 35, "Norwich", "Norfolk", 700),
    area("PL", 35, "Plymouth", "Devon", 540),
    area("DN", 41, "Doncaster", "South Yorkshire", 750),
    area("GL", 56, "Gloucester", "Gloucestershire", 640),
    area("CB", 25, "Cambridge", "Cambridgeshire", 450),
    area("EX", 39, "Exeter", "Devon", 570),
    area("TN", 40, "Tunbridge Wells", "Kent", 690),
    area("BD", 24, "Bradford", "West Yorkshire", 590),
    area("SK", 23, "Stockport", "Greater Manchester", 600),
    area("WF", 17, "Wakefield", "West Yorkshire", 520),
    area("YO", 62, "York", "North Yorkshire", 550),
    area("SA", 73, "Swansea", "West Glamorgan", 720),
    area("CT", 21, "Canterbury", "Kent", 490),
    area("IP", 33, "Ipswich", "Suffolk", 600),
    area("CO", 16, "Colchester", "Essex", 440),
    area("HU", 20, "Hull", "East Yorkshire", 440),
    area("SN", 26, "Swindon", "Wiltshire", 480),
    area("TS", 29, "Middlesbrough", "Cleveland", 600),
    area("WA", 16, "Warrington", "Cheshire", 630),
    area("BH", 25, "Bournemouth", "Dorset", 560),
    area("SL", 9, "Slough", "Berkshire", 390),
    area("KT", 24, "Kingston upon Thames", "Surrey", 530),
    area("CR", 9, "Croydon", "Surrey", 410),
    area("RM", 20, "Romford", "Essex", 540),
    area("HP", 27, "Hemel Hempstead", "Hertfordshire", 490),
    area("MK", 46, "Milton Keynes", "Buckinghamshire", 520),
    area("SS", 17, "Southend-on-Sea", "Essex", 520),
    area("WV", 16, "Wolverhampton", "West Midlands", 400),
    area("DY", 14, "Dudley", "West Midlands", 410),
    area("WS", 15, "Walsall", "West Midlands", 450),
    area("BL", 9, "Bolton", "Lancashire", 390),
    area("OL", 16, "Oldham", "Lancashire", 460),
    area("BB", 18, "Blackburn", "Lancashire", 490),
    area("FY", 8, "Blackpool", "Lancashire", 280),
    area("HD", 9, "Huddersfield", "West Yorkshire", 260),
    area("HX", 7, "Halifax", "West Yorkshire", 160),
    area("SR", 8, "Sunderland", "Tyne and Wear", 260),
    area("DH", 9, "Durham", "County Durham", 300),
    area("DL", 17, "Darlington", "County Durham", 370),
    area("CA", 28, "Carlisle", "Cumbria", 310),
    area("LA", 23, "Lancaster", "Lancashire", 330),
    area("LN", 13, "Lincoln", "Lincolnshire", 290),
    area("BA", 22, "Bath", "Somerset", 430),
    area("TA", 24, "Taunton", "Somerset", 340),
    area("TQ", 14, "Torquay", "Devon", 300),
    area("TR", 27, "Truro", "Cornwall", 300),
    area("SP", 11, "Salisbury", "Wiltshire", 240),
    area("WR", 15, "Worcester", "Worcestershire", 290),
    area("HR", 9, "Hereford", "Herefordshire", 180),
    area("SY", 25, "Shrewsbury", "Shropshire", 350),
    area("TF", 13, "Telford", "Shropshire", 210),
    area("NP", 44, "Newport", "Gwent", 510),
    area("LL", 78, "Llandudno", "Gwynedd", 530),
    area("WD", 25, "Watford", "Hertfordshire", 250),
    area("LU", 7, "Luton", "Bedfordshire", 330),
    area("TD", 15, "Berwick-upon-Tweed", "Northumberland", 30),
];

/// Last letters of postcodes.
pub(super) const POSTCODE_LETTERS: &[u8; 20] = b"ABDEFGHJLNPQRSTUWXYZ";

/// First words of streets.
pub(super) const STREETS: &str = "
High Church Station Park Victoria Mill Green School Chapel North Queen New King Main West Albert Kings George South York
Manor Grove East London The_Crescent Stanley Alexandra Windsor Springfield Oxford Grange Meadow Richmond Clarence Cross
Woodland Highfield Cambridge Beech Elm Ash Oak Willow Cedar Holly Birch Chestnut Hawthorn Lime Sycamore Laurel Rowan Poplar
St_John's St_Mary's Nelson Wellington Waterloo Trafalgar Bath Bridge River Canal Market Cliff Hill Moor Abbey Priory
Vicarage Rectory Orchard Garden Farm Field Spring Well Fountain Castle Tower Prospect Belmont Fairview Lansdowne Carlton
Cromwell Shakespeare Milton Tennyson Byron Wordsworth Coronation Jubilee Gladstone Salisbury Derby Durham Lincoln Norfolk";

/// Last words of streets, the most frequent first.
pub(super) const STREET_KINDS: &str =
    "Road Street Avenue Close Lane Drive Way Crescent Court Grove Gardens Place Terrace Walk Mews";

/// Houses with a name.
pub(super) const HOUSES: &str = "
Rose_Cottage The_Cottage The_Old_Schoolhouse Ivy_House The_Lodge Orchard_House The_Bungalow Holly_Cottage The_Old_Rectory
Hillside Wayside Fairview Meadow_View The_Old_Vicarage Mill_House Yew_Tree_Cottage Fern_Bank Primrose_Cottage Woodlands
Home_Farm";

/// Blocks of flats.
pub(super) const BLOCKS: &str = "
Trinity_Court Albion_House Regent_House Nelson_House Churchill_Court Kingfisher_House Jubilee_Court Tudor_House
Waterside_Court Hamilton_House Beech_Court Priory_Court Bevan_House Attlee_House Quayside_House";

/// Villages and parts of towns.
pub(super) const LOCALITIES: &str = "
Norton Newtown Hillside Upton Weston Sutton Kirkby Ashfield Heaton Morton Thorpe Langley Whitmore Bradley Stanton Milton
Westfield Northfield Southfield Eastwood Kingswood Parkside Riverside Highbury Beeston Horsforth Marsh_End Moorside Preston
Burton Easton Aston Carlton Boxgrove Sandford Brookfield Oakwood Woodhouse Castleton Chapelfield";

/// Languages of those who prefer another than English: code, display, weight.
pub(super) const LANGUAGES: [(&str, &str, u64); 18] = [
    ("pl", "Polish", 60),
    ("pa", "Panjabi", 30),
    ("ur", "Urdu", 30),
    ("bn", "Bengali", 25),
    ("gu", "Gujarati", 22),
    ("ar", "Arabic", 20),
    ("fr", "French", 16),
    ("pt", "Portuguese", 15),
    ("zh", "Chinese", 15),
    ("ro", "Romanian", 20),
    ("es", "Spanish", 13),
    ("ta", "Tamil", 11),
    ("tr", "Turkish", 11),
    ("it", "Italian", 10),
    ("so", "Somali", 9),
    ("cy", "Welsh", 20),
    ("q4", "British Sign Language", 8),
    ("lt", "Lithuanian", 9),
];

/// Countries that cards were issued in: code, display.
pub(super) const COUNTRIES: [(&str, &str); 8] = [
    ("FRA", "France"),
    ("DEU", "Germany"),
    ("ESP", "Spain"),
    ("POL", "Poland"),
    ("IRL", "Ireland"),
    ("ITA", "Italy"),
    ("ROU", "Romania"),
    ("PRT", "Portugal"),
];
